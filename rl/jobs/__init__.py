"""What a command runs: checks first, then actors, loop, summary and end."""
