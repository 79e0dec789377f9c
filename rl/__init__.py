"""Commands of the jobs; what they share lies in the folders below."""
