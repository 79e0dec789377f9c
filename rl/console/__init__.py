"""What a person sees: progress, errors in plain words, what every command does alike."""
