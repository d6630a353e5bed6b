"""Is the wavefront exact here? Looked at before the first row, and wherever a row ends elsewhere."""
