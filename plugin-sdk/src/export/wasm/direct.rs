//! The functions that the module exports: `run` by hand, the others as `wit-bindgen` writes them.
//!
//! The macro that `wit-bindgen` writes looks for them in a module of the path below.

pub mod exports {
    //! Nothing but the way to what is exported.
    pub mod tcpcopy {
        //! The package's namespace.
        pub mod plugin {
            //! The package.
            pub mod plugin {
                //! The interface.
                use super::super::super::super::super::bindings::exports::tcpcopy::plugin::plugin as written;
                use super::super::super::super::{layout, run};
                pub use written::{
                    __export_tcpcopy_plugin_plugin_0_1_0_cabi, __post_return_configure,
                    __post_return_describe, _export_configure_cabi, _export_describe_cabi,
                };

                /// What `run` is exported as.
                ///
                /// # Safety
                /// To be called by the host: the arguments are lists that it has just written to memory from
                /// `cabi_realloc`.
                #[doc(hidden)]
                pub unsafe fn _export_run_cabi<T>(
                    events: *mut u8,
                    event_count: usize,
                    openings: *mut u8,
                    opening_count: usize,
                    bytes: *mut u8,
                    byte_count: usize,
                ) -> *mut u8 {
                    // SAFETY: `cabi_realloc` allocates as `Vec` does, by size and alignment; an empty list has no memory.
                    let (events, openings, bytes) = unsafe {
                        (
                            Vec::<layout::Event>::from_raw_parts(events.cast(), event_count, event_count),
                            Vec::<layout::Opening>::from_raw_parts(
                                openings.cast(),
                                opening_count,
                                opening_count,
                            ),
                            Vec::from_raw_parts(bytes, byte_count, byte_count),
                        )
                    };
                    run(&events, &openings, &bytes).cast_mut().cast()
                }

                /// What `run` returned stays with the instance, to be used again.
                #[doc(hidden)]
                pub fn __post_return_run<T>(_outcome: *mut u8) {}
            }
        }
    }
}

use super::{INSTANCE, layout};

fn run(events: &[layout::Event], openings: &[layout::Opening], bytes: &[u8]) -> *const layout::Outcome {
    INSTANCE.with_borrow_mut(|instance| match instance {
        Some(instance) => instance.run(events, openings, bytes),
        None => panic!("run was called before configure"),
    })
}
