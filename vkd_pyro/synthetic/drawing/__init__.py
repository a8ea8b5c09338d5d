"""From facts to the radiograph that shows them."""
