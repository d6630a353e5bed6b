"""A trained model as a folder in hub layout, what it does with text it has not read, and its card."""
