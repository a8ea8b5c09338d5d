"""Encoders: tensors to features. `image` and `report` know nothing of each other; `vkd_pyro.model` joins them."""
