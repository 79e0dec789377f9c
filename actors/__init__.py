"""Ray actors and what they wrap: engines, learners, reward workers, and their pools."""

from rl.console.quiet import quieten_libraries

quieten_libraries()  # in workers, where no command has done it
