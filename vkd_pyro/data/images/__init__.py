"""X-rays: files to tensors."""
