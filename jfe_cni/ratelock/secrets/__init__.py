"""What secrets are once they are opened, and what is done with them. Pure: no store, no budget, no caller."""
