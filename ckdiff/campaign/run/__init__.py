"""The jobs of a campaign: their keys, their work, what is kept of them."""
