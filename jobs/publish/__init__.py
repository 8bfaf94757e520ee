"""A model or a packed column of a run as a folder with a card, and as a repository of the hub."""
