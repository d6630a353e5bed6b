"""What goes through the routers: the path of an edit by way of them, and the precision they compute in."""
