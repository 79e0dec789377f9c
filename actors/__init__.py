"""Ray actors and what they wrap: engines, learners, reward workers, and their pools."""
