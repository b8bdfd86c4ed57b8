"""ratelock as a function of AWS Lambda, as in 2016: its callers may invoke it, and neither change it nor reach the
store."""
