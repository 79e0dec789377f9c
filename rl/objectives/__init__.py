"""What answers are learned by: advantages, policy losses, divergences, what each token counts."""
