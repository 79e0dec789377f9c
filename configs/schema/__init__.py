"""The recipe's sections, one file each."""
