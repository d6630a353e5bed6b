"""More than one walk can hold, and more than one document in a walk."""
