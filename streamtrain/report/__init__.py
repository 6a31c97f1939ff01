"""A data set or a run → what a person looks at."""
