"""A DICOM node beside an archive (PACS): takes chest radiographs, and answers each study with a structured report.

receiving, polling   instances come by C-STORE, or are fetched by QIDO-RS and WADO-RS
selection            chest radiographs are taken, others left out, damaged ones refused
spool, ledger        files on disk, and in SQLite what became of each study
answering            a study that is quiet is predicted; a report and pictures of it are made
sending              they go into the same study by C-STORE or STOW-RS, until the archive has them
node                 all of it, running
"""
