"""Where it holds: effects by domain, how far domains differ, and what that says of a new one."""
