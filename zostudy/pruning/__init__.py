"""Zero-shot scores and the masks that come of them."""
