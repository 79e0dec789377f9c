"""Rule-based rewards: pure functions of a problem and an answer text."""
