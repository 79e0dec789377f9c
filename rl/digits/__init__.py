"""The toy task: sums of handwritten digits, in pictures and in words."""
