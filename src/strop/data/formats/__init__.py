"""The known formats: which columns or messages make a row."""
