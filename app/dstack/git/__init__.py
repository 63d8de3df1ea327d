"""The only room that runs git. Argument lists are built here, as data; GitPython's command runner executes them."""
