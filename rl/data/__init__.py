"""From data sets to problems, chats and micro-batches."""
