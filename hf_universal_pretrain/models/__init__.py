"""Any causal architecture: built, checked, taken over in part, counted."""
