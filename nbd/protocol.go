package nbd

// Magic numbers ("Protocol phases").
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454F5054 // "IHAVEOPT"
	magicOptReply   = 0x3e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Handshake flags, of the server and of the client: both know the same two.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Transmission flags.
const (
	flagHasFlags        = 1 << 0
	flagReadOnly        = 1 << 1
	flagSendFlush       = 1 << 2
	flagSendFUA         = 1 << 3
	flagSendTrim        = 1 << 5
	flagSendWriteZeroes = 1 << 6
	flagSendDF          = 1 << 7
	flagCanMultiConn    = 1 << 8
)

// Option types ("Option types").
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optStartTLS        = 5
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
)

// Option reply types ("Option reply types").
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4

	repErrUnsup   = 1<<31 | 1
	repErrInvalid = 1<<31 | 3
	repErrTLSReqd = 1<<31 | 5
	repErrUnknown = 1<<31 | 6
	repErrTooBig  = 1<<31 | 9
)

// Information types of optInfo and optGo.
const (
	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Request types ("Request types").
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
)

// Command flags.
const (
	cmdFlagFUA    = 1 << 0
	cmdFlagNoHole = 1 << 1
	cmdFlagDF     = 1 << 2
	cmdFlagReqOne = 1 << 3
)

// Structured reply flags and types ("Structured reply chunk").
const (
	replyFlagDone = 1 << 0

	replyNone        = 0
	replyOffsetData  = 1
	replyOffsetHole  = 2
	replyBlockStatus = 5
	replyError       = 1<<15 | 1
	replyErrorOffset = 1<<15 | 2
)

// Sizes in bytes.
const (
	requestSize     = 28
	simpleSize      = 16
	structuredSize  = 20
	sectorSize      = 512      // the smallest block a server offers: every offset and length is a multiple of it
	preferredSize   = 4096     // the preferred block
	maxPayload      = 32 << 20 // the longest READ or WRITE
	maxOption       = 64 << 10 // the longest option that is read
	maxName         = 4096     // the longest string ("Values")
	maxBlockExtents = 64 << 10 // extents in one reply to BLOCK_STATUS
)

const (
	contextAllocation = "base:allocation"
	allocationID      = 1 // the id under which base:allocation is reported
)
