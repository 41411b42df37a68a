//! Policy text → [`PolicyFile`](self), with the position of everything in it.
