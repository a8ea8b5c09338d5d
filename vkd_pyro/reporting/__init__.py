"""An evaluation as a page, figures and JSON, for a reader.

write     what is computed for the page alone, and all that is left in the folder
sections  which tables and figures the page has, and what is said of them
page      the parts of a page
html      how they become HTML
figures   arrays to matplotlib figures
"""
