"""Reading: records of files, folders, tables and objects, and the rows that they become."""
