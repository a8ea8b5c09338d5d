"""DICOM files: what their headers say they are, and their pixels as a radiologist's screen would show them."""
