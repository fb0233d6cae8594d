"""A kit for lecturers: students' copies, grading of what is handed in, nbgrader's format, and an assignment."""
