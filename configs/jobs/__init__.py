"""The recipe of each job, made of sections."""
