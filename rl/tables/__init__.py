"""Files of rows as Arrow tables, by a schema that holds for every row."""
