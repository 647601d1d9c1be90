"""What several tests need; each module says what it holds."""
