"""`ratelock` on the command line: a file a verb."""
