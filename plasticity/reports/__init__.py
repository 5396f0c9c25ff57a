"""Reports: a run's figures as files, and its page."""
