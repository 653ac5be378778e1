"""One addition of each kind to nwb-migvis."""
