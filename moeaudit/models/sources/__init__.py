"""Where weights come from: folders and the hub, wrapped objects, and their hashes."""
