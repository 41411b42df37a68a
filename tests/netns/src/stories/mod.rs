//! The stories, by what they are about.

mod harness;

use crate::runner::Story;

/// Lists stories as `file::function`.
macro_rules! stories {
    ($($file:ident: $($story:ident),+;)*) => {
        /// Every story.
        pub const ALL: &[Story] = &[$($(
            Story { name: concat!(stringify!($file), "::", stringify!($story)), run: $file::$story },
        )+)*];
    };
}

stories! {
    harness: a_private_host_is_ready_at_once, probes_tell_the_four_outcomes_apart, traps_catch_forged_frames;
}
