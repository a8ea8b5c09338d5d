"""What is fitted once a model is trained, and judges what it predicts."""
