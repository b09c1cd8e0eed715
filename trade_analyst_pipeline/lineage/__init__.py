"""What is made from what: captures to tables, tables to metrics, and all of it once more."""
