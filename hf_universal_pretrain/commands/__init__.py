"""What `hf-up` and the recipes run, one command a file."""
