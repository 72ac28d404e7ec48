"""What a training reports and leaves beside its model."""
