"""What an audit's page says of its run: the first screen, the terms, the command, the figures in order."""
