//! What becomes of a plugin: a WebAssembly module, or a native library.
//!
//! Both arms turn the host's calls into those of [`crate::dispatch`], and say no more than the interface does.

#[cfg(not(target_family = "wasm"))]
#[allow(unsafe_code, reason = "the native interface is one of pointers")]
pub mod native;
#[cfg(target_family = "wasm")]
pub mod wasm;

use std::panic::PanicHookInfo;

/// Makes a [`Plugin`](crate::Plugin) what tcpcopy loads: once in a `cdylib` crate.
///
/// For `wasm32-unknown-unknown` it exports a module that carries its interface's description, so that tcpcopy (or `tcpcopy
/// plugin componentize`) can make a component of it. Else it exports `tcpcopy_plugin_v0`, by which tcpcopy knows a native
/// library. Panics become faults of the session at hand with both; a native one must therefore not be built with
/// `panic = "abort"`.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::__private::wasm::Exported<$plugin>;
    $crate::__private::wasm::export!(Exported with_types_in $crate::__private::wasm::direct);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            /// What tcpcopy looks for.
            #[unsafe(no_mangle)]
            pub extern "C" fn tcpcopy_plugin_v0() -> *const $crate::__private::native::Table {
                static TABLE: $crate::__private::native::Lazy = $crate::__private::native::Lazy::new();
                TABLE.get::<$plugin>()
            }
        };
    };
}

/// Message and place of a panic.
fn describe_panic(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    match info.location() {
        Some(place) => format!("panic at {}:{}: {message}", place.file(), place.line()),
        None => format!("panic: {message}"),
    }
}
