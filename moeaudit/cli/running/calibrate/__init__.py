"""`moeaudit calibrate`: scores of a table of predictions."""
