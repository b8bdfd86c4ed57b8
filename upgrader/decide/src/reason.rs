//! The closed list of reasons: one word each, the same in log, metric, event and test.

macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in kebab-case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// How a connection is upgraded.
    Upgrade {
        /// Mutual TLS between two enrolled workloads.
        Mutual => "mutual",
        /// A stranger's TLS ends here, for an application that has none.
        Terminated => "terminated",
    }
}

reasons! {
    /// Why a connection is relayed as it is.
    PassThrough {
        /// Settings say so, by port or network.
        Excluded => "excluded",
        /// Outbound, permissive: the peer is not enrolled.
        Stranger => "stranger",
        /// Outbound, permissive: the peer should be covered and is not yet.
        NotCoveredYet => "not-covered-yet",
        /// A hello that is the application's own matter, in either direction.
        ApplicationTls => "application-tls",
        /// Inbound, permissive: a stranger's hello, and asking the application taught nothing.
        ApplicationUnknown => "application-unknown",
        /// Inbound, permissive: a stranger without TLS.
        Plaintext => "plaintext",
        /// Inbound, permissive: the application spoke before the silent stranger.
        ServerFirst => "server-first",
    }
}

reasons! {
    /// Why a connection is ended.
    Refuse {
        /// Someone dialled a listener of the upgrader itself.
        OwnListener => "own-listener",
        /// Inbound plaintext from an address that the directory calls covered.
        PlaintextFromCovered => "plaintext-from-covered",
        /// Inbound, strict: a stranger without TLS.
        Plaintext => "plaintext",
        /// Outbound, strict: the first byte of either side towards a stranger is not a hello of the application.
        PlaintextToStranger => "plaintext-to-stranger",
        /// Inbound, strict: a stranger's hello, and the application has no TLS.
        StrangerTls => "stranger-tls",
        /// Inbound, strict: a stranger's hello, and asking the application taught nothing.
        ApplicationUnknown => "application-unknown",
        /// Nothing came in time from a peer that had to speak first.
        Silent => "silent",
        HelloMalformed => "hello-malformed",
        HelloTooLarge => "hello-too-large",
        HandshakeFailed => "handshake-failed",
        HandshakeTimeout => "handshake-timeout",
        /// Covered by the directory, and does not answer with TLS.
        PeerNotTls => "peer-not-tls",
        /// A valid certificate of another identity.
        PeerIdentity => "peer-identity",
        /// A valid certificate that does not name the address.
        PeerAddress => "peer-address",
        /// A certificate that no root of the trust bundle vouches for, or that is out of date.
        PeerUntrusted => "peer-untrusted",
        /// Outbound, strict: the peer should be covered, and was not in time.
        NotCoveredYet => "not-covered-yet",
        /// Too many unclassified connections of one source.
        SourceLimit => "source-limit",
        /// Descriptors, memory or unclassified connections ran out.
        Exhausted => "exhausted",
        ConnectRefused => "connect-refused",
        ConnectUnreachable => "connect-unreachable",
        ConnectTimeout => "connect-timeout",
        WorkloadRemoved => "workload-removed",
    }
}

/// What happens to one connection, once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    Upgrade(Upgrade),
    PassThrough(PassThrough),
    Refuse(Refuse),
}

impl Decision {
    /// `upgrade`, `pass_through` or `refuse`.
    pub const fn decision_str(self) -> &'static str {
        match self {
            Self::Upgrade(_) => "upgrade",
            Self::PassThrough(_) => "pass_through",
            Self::Refuse(_) => "refuse",
        }
    }

    /// The reason's word.
    pub const fn reason_str(self) -> &'static str {
        match self {
            Self::Upgrade(how) => how.as_str(),
            Self::PassThrough(why) => why.as_str(),
            Self::Refuse(why) => why.as_str(),
        }
    }

    /// Every decision that can be.
    pub fn all() -> impl Iterator<Item = Self> {
        let upgrades = Upgrade::ALL.iter().copied().map(Self::Upgrade);
        let passes = PassThrough::ALL.iter().copied().map(Self::PassThrough);
        let refusals = Refuse::ALL.iter().copied().map(Self::Refuse);
        upgrades.chain(passes).chain(refusals)
    }
}

impl From<Upgrade> for Decision {
    fn from(how: Upgrade) -> Self {
        Self::Upgrade(how)
    }
}

impl From<PassThrough> for Decision {
    fn from(why: PassThrough) -> Self {
        Self::PassThrough(why)
    }
}

impl From<Refuse> for Decision {
    fn from(why: Refuse) -> Self {
        Self::Refuse(why)
    }
}
