"""The command line: one file a verb. Nothing is decided here; the agent is asked, and its answer is shown."""
