"""What several readers share: cells of tables, names of patients, views."""
