//! Capture filters: expressions in libpcap's language, compiled to the classic BPF that the kernel runs.
//!
//! This module owns making expressions from endpoints and compiling them for a socket. Where the kernel has taken a VLAN tag
//! out of a frame, the frame is as if it had none; a second tag (QinQ) stays in the data, so every program accepts what it
//! describes with a tag in front as well.

mod expression;
mod frame;
mod program;

pub use expression::{Streams, capture_expression, incoming, reply_expression, with_references};
pub use frame::FrameFilter;
pub(crate) use program::{
    PortSide, client_port_program, fanout_program, ignore_outgoing_program, loopback_once_program,
    snap_program,
};

/// What the frames that a filter sees start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterLink {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Raw,
}

/// An expression that can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// libpcap doesn't understand it.
    #[error("filter \"{expression}\": {message}")]
    Syntax {
        /// The expression.
        expression: String,
        /// libpcap's message.
        message: String,
    },
    /// The kernel takes no programs of this length.
    #[error(
        "a filter of {length} characters needs {instructions} instructions, the kernel takes {MAX_INSTRUCTIONS}"
    )]
    TooLong {
        /// Length of the expression.
        length: usize,
        /// Length of the program.
        instructions: usize,
    },
    /// The text is too long for libpcap, whose compiler needs more stack and time the longer it is.
    #[error("a filter of {length} characters is too long (at most {MAX_TEXT})")]
    TextTooLong {
        /// Length of the expression.
        length: usize,
    },
}

impl FilterError {
    /// What the user can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "the language is that of tcpdump: man pcap-filter",
            Self::TooLong { .. } | Self::TextTooLong { .. } => {
                "name fewer servers, or give one shorter filter with -F"
            }
        }
    }
}

/// Longest expression that is given to libpcap. The kernel's limit is mostly reached earlier.
const MAX_TEXT: usize = 64 << 10;

/// The compiler recurses over the expression; the stack of an ordinary thread ends before [`MAX_TEXT`] does.
const COMPILER_STACK: usize = 64 << 20;

/// `BPF_MAXINSNS`.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled filter.
#[derive(Clone)]
pub struct Filter {
    expression: String,
    link: FilterLink,
    snap_len: u32,
    instructions: Vec<libc::sock_filter>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter")
            .field("expression", &self.expression)
            .field("link", &self.link)
            .field("snap_len", &self.snap_len)
            .field("instructions", &self.instructions.len())
            .finish()
    }
}

impl Filter {
    /// Compiles `expression` (empty: everything) for frames that start with `link`; of what matches, `snap_len` bytes are kept.
    ///
    /// Unless the expression itself speaks of `vlan`, frames with one VLAN tag left in the data match as well.
    ///
    /// # Errors
    /// What libpcap says to the expression.
    pub fn compile(expression: &str, link: FilterLink, snap_len: u32) -> Result<Self, FilterError> {
        if expression.len() > MAX_TEXT {
            return Err(FilterError::TextTooLong { length: expression.len() });
        }
        // Compiled alone first: an error in the text should be reported as it was typed.
        let plain = compile_text(expression, link)?;
        let instructions = match link {
            FilterLink::Ethernet if may_add_tags(expression) => {
                compile_text(&expression::with_tags(expression), link)?
            }
            FilterLink::Ethernet => plain,
            FilterLink::Raw => program::with_tags_in_datagrams(&plain),
        };
        let instructions = snap_program(&instructions, snap_len);
        // These many may yet be put in front.
        if instructions.len() + program::LONGEST_PREFIX > MAX_INSTRUCTIONS {
            let (length, instructions) = (expression.len(), instructions.len());
            return Err(FilterError::TooLong { length, instructions });
        }
        Ok(Self { expression: expression.to_owned(), link, snap_len, instructions })
    }

    /// The same filter for frames that start with `link`.
    ///
    /// # Errors
    /// When the expression makes no sense there (an Ethernet address without Ethernet).
    pub fn for_link(&self, link: FilterLink) -> Result<Self, FilterError> {
        if link == self.link {
            Ok(self.clone())
        } else {
            Self::compile(&self.expression, link, self.snap_len)
        }
    }

    /// The expression as it was given.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// What the filter's frames start with.
    pub const fn link(&self) -> FilterLink {
        self.link
    }

    /// Bytes kept of what matches.
    pub const fn snap_len(&self) -> u32 {
        self.snap_len
    }

    pub(crate) fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }
}

/// The text that `--pcap-capture` gives to libpcap on a live device: tags may be in the data there too.
pub(crate) fn live_expression(expression: &str) -> String {
    if may_add_tags(expression) { expression::with_two_tags(expression) } else { expression.to_owned() }
}

fn may_add_tags(expression: &str) -> bool {
    let speaks_of_tags = expression
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| matches!(word, "vlan" | "mpls" | "pppoes" | "geneve"));
    !expression.trim().is_empty() && !speaks_of_tags
}

fn compile_text(expression: &str, link: FilterLink) -> Result<Vec<libc::sock_filter>, FilterError> {
    let compiled = std::thread::scope(|scope| {
        let compiler = std::thread::Builder::new().stack_size(COMPILER_STACK);
        let thread =
            compiler.spawn_scoped(scope, || compile_here(expression, link)).map_err(|e| e.to_string())?;
        thread.join().map_err(|_| "the compiler failed".to_owned())
    });
    compiled.unwrap_or_else(|message| Err(FilterError::Syntax { expression: expression.to_owned(), message }))
}

fn compile_here(expression: &str, link: FilterLink) -> Result<Vec<libc::sock_filter>, FilterError> {
    let syntax = |message: String| FilterError::Syntax { expression: expression.to_owned(), message };
    let link_type = match link {
        FilterLink::Ethernet => pcap::Linktype::ETHERNET,
        // LINKTYPE_RAW is 101 in files, but 12 to libpcap's own functions.
        FilterLink::Raw => pcap::Linktype(12),
    };
    let message = |error: pcap::Error| match error {
        pcap::Error::PcapError(text) => syntax(text),
        other => syntax(other.to_string()),
    };
    let handle = pcap::Capture::dead(link_type).map_err(message)?;
    let program = handle.compile(expression, true).map_err(message)?;
    program
        .get_instructions()
        .iter()
        .map(|instruction| {
            // The crate shows an instruction as text only: "code jt jf k".
            program::parse(&instruction.to_string()).ok_or_else(|| {
                syntax(format!("libpcap gave an instruction that can't be read: {instruction}"))
            })
        })
        .collect()
}
