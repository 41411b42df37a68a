//! What is wrong with a file, and where: `FILE:LINE:COLUMN: error: …` and the line with a caret.
