"""Many trials in one folder: proposed, claimed, remembered, and continued after any end."""
